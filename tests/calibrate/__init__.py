"""Tests of statistics, ranges, groupings, plans and strategies."""
