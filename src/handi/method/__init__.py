"""The paper's method: motion area, poses, diffusion, losses, and the pipeline of two stages."""
