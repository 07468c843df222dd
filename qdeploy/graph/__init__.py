"""What is known of a graph, by calibration and by deployment alike."""
