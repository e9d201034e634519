"""What the log has to say of one answer: looked up, told on a page, packed to be checked elsewhere, and run again."""
