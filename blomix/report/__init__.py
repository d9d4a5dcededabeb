"""What a run did, for people: HTML report, figures, comparison of runs, model card."""
