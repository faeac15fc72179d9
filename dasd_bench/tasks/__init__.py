"""What task plugins are built from: loading rows, deriving lm-eval configurations, grading, overlap checks."""
