"""Files that ship with the package. example.png: `handi world --action cut --seed 900011 --size 256`, frame 0."""
