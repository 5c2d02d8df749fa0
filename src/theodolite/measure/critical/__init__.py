"""Critical points of small networks: found by Newton steps without a merit function, and certified.

``find.py`` is the instrument; ``newton.py`` walks, ``certify.py`` judges, the rest says where to start and what is one.
"""
