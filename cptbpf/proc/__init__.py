"""/proc as a witness of its own, and what it alone knows: pid namespaces, executables, command lines, cgroups."""
