"""Equipment of the tests: records made by hand, waiting with a deadline, and the batteries that twins share."""
