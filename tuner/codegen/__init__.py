"""From a loop nest to LLVM IR (``llvm``), and from there to machine code for a processor (``cpu``)."""
