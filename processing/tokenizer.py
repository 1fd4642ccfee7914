"""Visual markers as special tokens, and the rule that keeps the same strings, typed by a user, text."""

from tokenizers import AddedToken, Regex, normalizers

from .prompts_unirs import CHANGE_MARKER, ESCAPE, FRAME_MARKERS, IMAGE_MARKER

MARKERS = (IMAGE_MARKER, CHANGE_MARKER, *FRAME_MARKERS)


def prepare_tokenizer(tokenizer):
    """Adds the markers to a fast tokenizer in place, and the removal of the escape character. May be repeated.

    Returns:
        The same tokenizer.

    Raises:
        ValueError: The tokenizer is no fast one, or has special tokens that the escape cannot disarm.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError("UniRS needs a fast tokenizer (one with a tokenizer.json)")
    missing = [marker for marker in MARKERS if marker not in tokenizer.get_vocab()]
    if missing:
        tokens = [AddedToken(marker, special=True, normalized=False) for marker in missing]
        tokenizer.add_tokens(tokens, special_tokens=True)
    backend = tokenizer.backend_tokenizer
    remove_escape = normalizers.Replace(Regex(ESCAPE), "")
    if backend.normalizer is None or backend.normalizer.normalize_str(ESCAPE):
        present = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([remove_escape, *present])

    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    armed = [token for token in special if set(tokenizer.tokenize(token.replace("<", "<" + ESCAPE))) & special]
    if armed:
        raise ValueError(f"typed by a user, these special tokens would act: {', '.join(sorted(armed))}")
    return tokenizer


__all__ = ["MARKERS", "prepare_tokenizer"]
