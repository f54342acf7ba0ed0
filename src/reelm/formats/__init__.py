"""How logs, item tables and whole data sets come in."""

FORMATS = {
    "table": "reelm.formats.table:Table",
    "tiktok": "reelm.formats.tiktok:TikTok",
    "microlens": "reelm.formats.microlens:MicroLens",
    "ml1m": "reelm.formats.ml1m:MovieLens1M",
    "beauty": "reelm.formats.beauty:Beauty",
    "collm": "reelm.formats.collm:CoLLM",
    "goodreads": "reelm.formats.goodreads:Goodreads",
    "recbole": "reelm.formats.recbole:RecBole",
    "mmrec": "reelm.formats.mmrec:MMRec",
}
