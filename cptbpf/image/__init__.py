"""The cpt image format: records, writer, reader, JSON. Runs without root, without BPF, on any machine."""
