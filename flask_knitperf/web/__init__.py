"""The pages under the prefix: a guard in front of everything, and a blueprint behind it."""
