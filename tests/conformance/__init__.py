"""The restic program as the judge: what we write it reads, what it writes we read."""
