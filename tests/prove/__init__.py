"""`make prove`: break the whole system on purpose for minutes, then account for every order.

Customers order at a pace that does not wait for answers (load.py, customers.py), faults strike by a schedule that
follows from a seed (schedule.py), every call and answer is logged (calls.py), and the guarantees of the system, one
table (guarantees.py), are held against what the stores say: during the faults, and in full after healing.

Source: Jepsen (generator, nemesis, history, checker); Toxiproxy (proxy.py). How to read and extend it: docs/prove.md.
"""
