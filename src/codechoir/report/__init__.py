"""The report stage: a run's figures and facts as Markdown and one self-contained HTML page."""
