"""Everything that talks ptrace(2): seizing, stopping, reading and releasing tasks."""
