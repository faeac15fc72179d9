"""The fixtures of the results tests."""

from tests.made_results import build as build
