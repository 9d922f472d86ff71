"""Plain readings of the machine: its GPUs, memory, processors, disks and network. Nothing here judges or remembers."""
