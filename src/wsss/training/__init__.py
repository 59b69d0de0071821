"""What all networks share: optimisers and schedules, the loop, checkpoints, loading."""
