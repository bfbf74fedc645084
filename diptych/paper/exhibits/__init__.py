"""Tables and figures of the paper, each built from Results."""
