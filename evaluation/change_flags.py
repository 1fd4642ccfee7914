"""Whether a caption says that anything changed."""

from __future__ import annotations

import re

from .captions import normalise

# LEVIR-CC writes these five, and only these, for every pair without a change.
NO_CHANGE_SENTENCES = (
    "there is no difference",
    "the two scenes seem identical",
    "the scene is the same as before",
    "no change has occurred",
    "almost nothing has changed",
)

LONGEST = 30  # words; whoever needs more says something else too, and a pattern would take long over them

# Words that may stand around "no change" without taking it back. Whoever writes another word ("no change but a new
# road appears", "no change in the houses") says more than that nothing changed.
_HEDGE = r"(?:almost|nearly|virtually|basically|essentially|absolutely|completely|exactly|largely|mostly)"
_ADJECTIVE = (
    r"(?:obvious|significant|visible|apparent|noticeable|major|notable|clear|real|discernible|remote|sensing|image)"
)
_WHAT = r"(?:scenes?|images?|pictures?|photos?|areas?|landscapes?|views?|locations?)"
_WHERE = (
    r"(?: (?:between|in|to|of|from|across|over|within|on|for|with)"
    rf"(?: (?:the|these|this|both|two|either|all|given|provided|before|after|and|dates|times|pair|{_WHAT}))+)*"
)
_HAPPENED = (
    r"(?: (?:has|have|had|is|are|was|were|can)(?: been| be)?"
    r"(?: (?:occurred|happened|observed|detected|found|seen|visible|made|noticed|identified|taken place))?)?"
)
_THERE = r"(?:there (?:is|are|was|were|seems? to be|appears? to be|has been|have been) )?"
_NO_CHANGE = re.compile(
    rf"(?:no |no, )?(?:"
    rf"{_THERE}(?:{_HEDGE} )?(?:no|not any) (?:{_ADJECTIVE} )*(?:changes?|differences?){_WHERE}{_HAPPENED}{_WHERE}"
    rf"|(?:{_HEDGE} )?nothing(?: {_ADJECTIVE})? (?:has |have |had |is |was )?(?:changed|different|happened|changes)"
    rf"(?: at all)?{_WHERE}"
    rf"|(?:the|these|both) (?:two |both )?{_WHAT} (?:ha(?:s|ve)(?: not|n't) changed|d(?:o|oes|id)(?: not|n't) change)"
    rf"|(?:the|these|both) (?:two |both )?{_WHAT} (?:is|are|seems?|looks?|appears?|remains?|stays?)"
    rf"(?: to be)?(?: {_HEDGE})? (?:identical|unchanged|the same)(?: as before| in both {_WHAT})?"
    rf")|no"
)


def says_change(caption: str) -> bool | None:
    """Whether the caption says that something changed; None of a caption without words, which says neither.

    "No change" is said by one of LEVIR-CC's five sentences, by "no" alone, or by a sentence that is as a whole one of
    these, however hedged ("almost", "no obvious"), and with where and when ("between the two images"):

    - (there is) no change / no difference (has occurred / can be seen);
    - nothing has changed, the scene has not changed;
    - the scene is / the two images are the same (as before) / identical / unchanged.

    Every other caption says that something changed, also one that begins so and goes on ("no change except a road").
    """
    words = normalise(caption)
    if not words:
        return None
    if words in NO_CHANGE_SENTENCES:
        return False
    return words.count(" ") >= LONGEST or _NO_CHANGE.fullmatch(words) is None
