"""The guide: what a learner, a teacher or a speaker types in the lab."""
