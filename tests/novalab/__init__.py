"""OpenStack on this machine: Nova's own API, scheduler, conductor, and compute in one process."""
