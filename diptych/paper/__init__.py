"""Tables and figures of the paper that need more than one evaluator: one file each."""
