"""Rows of the scores of unirs-tiny: what they are called, what they are of, and what was to be reached."""

NOTE = (
    "On RS-World's test split, whose layouts do not occur in training, on its validation split (layouts as in "
    'training), and on real pictures. "No picture" is the same model with the same question on a grey picture; for '
    "CIDEr-D it is the best one caption for all."
)
SKIPPED = " Of generated scenes the first {:,} of each split are left out: earlier rounds were scored on those."
QUESTIONS = ("presence", "comparison", "rural_urban", "count", "scene", "area", "position")
NAMES = {
    "vqa_micro": "questions on one image, all",
    "presence": "presence",
    "comparison": "comparison",
    "rural_urban": "rural or urban",
    "count": "count",
    "scene": "land cover",
    "area": "area, four classes",
    "position": "position, nine places",
    "change_caption": "change caption is one of five references",
    "change_flag_of_caption": "caption says rightly whether anything changed",
    "change_flag": "has anything changed, yes or no",
    "change_only_cider_d": "captions of changed pairs",
    "clip_class": "clip class, of 25 named",
    "when": "when did it change, of four dates",
    "change_map": "change map against the masks of changed pairs",
    "closer_map": "closer change map (`--closer`) against the same masks",
    "familiar_vqa_micro": "questions on one image, familiar layouts",
    "familiar_change_flag": "has anything changed, familiar layouts",
    "familiar_clip_class": "clip class, familiar layouts",
    "reworded_vqa_micro": "questions on one image, all, in words not trained on",
    "reworded_change_flag": "has anything changed, in words not trained on",
    "reworded_clip_class": "clip class, in words not trained on",
    "yes_or_no": "is it one land cover, rural or urban, in words not trained on",
    "same_or_not": "are both dates the same, has nothing changed, in words not trained on",
    "choice": "town or countryside, same or different: which, in words not trained on",
    "what_changed": "was one kind of thing built, removed or planted (changed pairs), in words not trained on",
    "where_changed": "where did it change: nine places, several, all (changed pairs), in words not trained on",
    "not_known": "what no picture tells, not trained on: says so",
    "unknown_thing": "of a thing that it was never told of, not trained on: says so",
    "real_scene": "RSSCN7 class, of 7 (real pictures)",
    "real_presence": "presence of what a scene of its class surely shows, or surely does not (RSSCN7)",
    "real_rural_urban": "rural or urban, by class (RSSCN7, without its water)",
    "real_cover": "land cover, by class (RSSCN7, without its parking lots)",
    "other_presence": "presence of nine kinds of things (real pictures of other sources, labels by eye)",
    "other_rural_urban": "rural or urban (real pictures of other sources, labels by eye)",
    "other_cover": "land cover, of five (real pictures of other sources, labels by eye)",
    "film_class": "clip class, of 25 named (14 films from drones and the like, labels by eye)",
    "era_class": "clip class, of 25 named (21 ERA clips, two frames of each)",
    "levir_flag_of_caption": "caption says that something changed (14 changed pairs of LEVIR-CC's figures)",
    "levir_cider_d": "captions of the same 14 pairs",
    "real_change": "has anything changed (15 real pairs: LEVIR-CD, DSIFN)",
    "real_no_change": "has anything changed (the same 30 dates against themselves in another light: no)",
    "real_change_map": "change map against the masks of 14 real pairs",
    "real_closer_map": "closer change map against the masks of 14 real pairs",
    "levir_cd_change_map": "change map against the masks of 7 LEVIR-CD pairs (of buildings alone)",
    "levir_cd_closer_map": "closer change map against the masks of 7 LEVIR-CD pairs (of buildings alone)",
    "dsifn_change_map": "change map against the masks of 7 DSIFN pairs",
    "dsifn_closer_map": "closer change map against the masks of 7 DSIFN pairs",
    "crops_change_map": "change map against the masks of 4 crops of figures of LEVIR-CC",
    "crops_closer_map": "closer change map against the masks of 4 crops of figures of LEVIR-CC",
}
DATASETS = {  # of rows about real pictures, by how their names begin; the first that fits
    "real_change": "LEVIR-CD and DSIFN-CD",
    "real_no_change": "LEVIR-CD and DSIFN-CD",
    "real_closer_map": "LEVIR-CD and DSIFN-CD",
    "real_": "RSSCN7",
    "other_": "RSVQA, GeoChat and others",
    "film_": "UAV123 and others",
    "era_": "ERA",
    "levir_cd_": "LEVIR-CD",
    "levir_": "LEVIR-CC",
    "dsifn_": "DSIFN-CD",
    "crops_": "LEVIR-CC",
}
# What the checkpoint was to reach when it was begun (docs/decisions.md); of captions, as many times as the best one
# caption for all.
AIMS = {
    "vqa_micro": 0.92,
    "change_flag": 0.97,
    "clip_class": 0.90,
    "real_scene": 0.80,
    "real_change": 0.80,
    "real_change_map": 0.75,
}
CAPTION_AIM = 2


def told(scores: dict[str, dict]) -> dict[str, dict]:
    """The scores in the order of NAMES, each with its data set, where that is not RS-World, and its aim."""
    rows = {kind: scores[kind] for kind in NAMES if kind in scores}
    for kind, row in rows.items():
        if found := next((name for start, name in DATASETS.items() if kind.startswith(start)), ""):
            row["dataset"] = found
        if kind == "change_only_cider_d":
            row["aim"] = round(CAPTION_AIM * row["blind"], 2)
        elif kind in AIMS:
            row["aim"] = AIMS[kind]
    return rows
