"""Measure what a network costs on a device."""
