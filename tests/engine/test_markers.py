"""Which candidates belong to a marker, against a literal search in the decoded text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.engine.markers import Markers


class Characters:
    """A tokenizer with some pieces of several characters, as a trained one has."""

    words = ("\\", "box", "ed", "The", " answer", " is", "##", "a", "{", ":", " The", "\n", "frac", "#", "The answer")

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        ids = []
        while text:
            best = max((w for w in self.words if text.startswith(w)), key=len, default=None)
            if best is None:
                text = text[1:]
                continue
            ids.append(self.words.index(best))
            text = text[len(best) :]
        return ids

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(self.words[i] for i in ids)


TOKENIZER = Characters()
IDS = st.lists(st.integers(0, len(Characters.words) - 1), max_size=12)
MARKERS = ("\\boxed", "The answer is", "####")


@pytest.mark.parametrize(
    ("before", "candidate", "kept"),
    [
        ("", "\\", True),  # may begin \boxed
        ("\\", "box", True),
        ("\\box", "ed", True),
        ("a", "box", False),
        ("\\frac", "ed", False),
        ("\\boxed", "{", False),
        ("The answer", " is", True),
        ("a", " is", False),
        ("The", " is", False),
        ("##", "##", True),
        ("a", ":", False),
        ("a", "\n", False),
        ("a", " The", True),
    ],
)
def test_pieces_count_at_their_place_only(before: str, candidate: str, kept: bool) -> None:
    tokens = TOKENIZER.encode(before)
    (one,) = TOKENIZER.encode(candidate)
    assert Markers(TOKENIZER).touched(tokens, one, MARKERS) is kept


@settings(max_examples=300, deadline=None)
@given(IDS, st.sampled_from(MARKERS))
def test_every_token_of_a_whole_marker_is_kept_and_none_far_from_one(ids: list[int], marker: str) -> None:
    """Tokens in a span of the finished text, as masking finds them, were kept; the others only where one may begin."""
    markers = Markers(TOKENIZER)
    ids = [*ids, *TOKENIZER.encode(marker), *ids]
    text = TOKENIZER.decode(ids)
    at = 0
    for index, token in enumerate(ids):
        piece = TOKENIZER.words[token]
        kept = markers.touched(ids[:index], token, [marker])
        starts = [s for s in range(len(text)) if text.startswith(marker, s)]
        inside = any(s < at + len(piece) and s + len(marker) > at for s in starts)
        known = text[: at + len(piece)]
        begun = any(marker.startswith(known[s:]) for s in range(max(0, len(known) - len(marker)), len(known)))
        if (inside and TOKENIZER.encode(marker)[0] == token) or any(s < at < s + len(marker) for s in starts):
            assert kept, (text, index)
        if not inside and not begun:
            assert not kept, (text, index)
        at += len(piece)
