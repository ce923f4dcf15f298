"""What the market is made of: plain values without I/O, brokers or vendor spellings."""
