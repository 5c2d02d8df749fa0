"""Critical points of small networks: found by Newton steps without a merit function, and certified.

``search.py`` sets out from every start, ``newton.py`` walks and ``certify.py`` judges; the rest says where to start and
what is one. ``measure/find_critical_points.py`` is the instrument.
"""
