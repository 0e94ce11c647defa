"""What is drawn or written for people: reports, model card, figures."""
