"""What monitoring computes and decides. Pure.

`profile` reads the reference that came with the version, `window` folds predictions and labels, `figures` describes a
window, `betting` turns a window into evidence, `verdict` holds the evidence against the budget of false alarms.
"""
