"""Looks at a live graph or a recording and says what keeps the perception node from working.

`live`, `recording` and `environment` gather facts, the `*_checks` are pure functions from facts to
findings, `advice` puts the launch line together, and `presenting` prints it all.
"""
