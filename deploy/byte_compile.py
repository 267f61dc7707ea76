"""Byte-compiles a member of the workspace and whatever it imports, by importing it: `byte_compile.py payment-provider`.

Half of what the libraries bring is never imported; compiled, it would be a tenth of an image.
"""

import importlib
import pkgutil
import sys
from contextlib import suppress

package = importlib.import_module(sys.argv[1].replace("-", "_"))
for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
    if not module.name.endswith("__main__"):
        with suppress(ModuleNotFoundError):  # it needs an extra that this image does not have
            importlib.import_module(module.name)
