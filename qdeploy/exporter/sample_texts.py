"""Texts that the verification feeds: plain questions and sentences, and what breaks tokenizers."""

from __future__ import annotations

PLAIN = (
    ("What do bees gather from flowers?", "Bees gather nectar and pollen from flowers."),
    ("When was the bridge opened?", "It was opened to traffic in May 1932, after eight years."),
    ("Who wrote the report?", "The committee's report ran to 1,204 pages and cost £3.5 million."),
    ("How deep is the lake?", "At its deepest the lake measures 310 m; its mean depth is 154 m."),
    ("Which metal is liquid at room temperature?", "Mercury melts at −38.8 °C."),
    ("Why do leaves turn red?", "In autumn chlorophyll breaks down, and other pigments show."),
    ("Where does the river rise?", "The valley is known for its orchards and its narrow lanes."),
    ("What is the capital of the province?", "The province exports timber, wool and salted fish."),
    ("Yes?", "No."),
    (
        "Which of the four instruments that the expedition carried was lost in the second winter?",
        "Of the four instruments the expedition carried, the chronometer, the theodolite and the "
        "barometer came home; the dip circle went through the ice in the second winter, when the "
        "sledge that bore it broke, and was never recovered.",
    ),
)
ODD = (
    ("", ""),
    ("   ", "\t\n"),
    ("", "The first text is empty."),
    ("naïve façade coöperate", "nai\u0308ve fac\u0327ade"),  # composed and combining
    ("ﬁne ofﬁce", "① Ⅳ ½ ㎏"),  # ligatures and compatibility forms
    ("東京の人口は？", "北京是中国的首都。"),
    ("서울의 인구", "ไม่มีช่องว่างระหว่างคำ"),
    ("ما هي العاصمة؟", "עיר הבירה היא ירושלים"),
    ("क्या यह काम करता है", "Привет, Ёлка!"),
    ("ΑΣ ΟΔΟΣ σς", "İstanbul ıIiİ ẞß"),  # lower-casing depends on place and language
    ("👩\u200d👩\u200d👧 👍🏽 🇨🇭", "emoji 😀 in 😀 a 😀 row"),
    ("soft\u00adhyphen", "zero\u200bwidth\u200djoin\ufeff"),
    ("non\u00a0breaking\u2003spaces\u3000here", "line\u2028paragraph\u2029"),
    ("bell\u0007 and null\u0000", "replacement \ufffd private \ue000"),
    ("𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒎𝒂𝒕𝒉", "ｆｕｌｌｗｉｄｔｈ ＡＢＣ"),
    ("don't can't it's I'll", "“quoted” ‘single’ … — – ‐"),
    ("[CLS] [SEP] [MASK] [PAD]", "<s> </s> <mask> <pad> <unk>"),
    ("a" * 250, "antidisestablishmentarianism" * 6),
    ("C++ #include <vector> x=(a&&b)||!c", "https://example.org/?q=1&r=%20#top"),
    ("1234567890 3.14159 1e-5 0x1F", "$€¥₹ ±×÷≈≠ ∑∫√"),
    (" leading and trailing ", "double  spaces   and\ttabs"),
    ("A\u0300\u0301\u0302\u0303\u0304", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢"),
    ("UPPER lower MiXeD", "snake_case camelCase kebab-case"),
)
PAIRS = PLAIN + ODD
