"""Tables and figures of the paper, each made from Results."""
