"""The fixtures of the reporting tests."""

from tests.made_results import build as build
