"""What SSMP is compared with: learned baselines under the same data and measures, and orders that need no learning."""
