"""The deployed engine, end to end: the synthesized template in an emulator of AWS, with a stand-in for what computes."""
