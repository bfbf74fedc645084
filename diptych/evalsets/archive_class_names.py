"""Class names of original archives that differ from the names in the prompts table."""

CALTECH101_NAMES = {
    "BACKGROUND_Google": "background",
    "Faces": "off-center face",
    "Faces_easy": "centered face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "car_side": "side of a car",
    "cougar_body": "body of a cougar cat",
    "cougar_face": "face of a cougar cat",
    "crocodile_head": "head of a crocodile",
    "flamingo_head": "head of a flamingo",
    "snoopy": "snoopy (cartoon beagle)",
    "yin_yang": "yin and yang symbol",
}
"""Folder name -> name in the prompts table, for the Caltech-101 classes where the two differ."""

EUROSAT_NAMES = {
    "PermanentCrop": "permanent crop land",
    "Residential": "residential buildings or homes or apartments",
    "Pasture": "pasture land",
    "SeaLake": "lake or sea",
    "HerbaceousVegetation": "brushland or shrubland",
    "AnnualCrop": "annual crop land",
    "Industrial": "industrial buildings or commercial buildings",
    "Highway": "highway or road",
}
"""Folder name -> name in the prompts table, for the EuroSAT classes where the two differ."""

_CODES = (
    "AD AE AF AG AI AL AM AO AQ AR AT AU AW AX AZ BA BB BD BE BF BG BH BJ BM BN BO BQ BR BS BT BW BY BZ CA CD CF CH CI "
    "CK CL CM CN CO CR CU CV CW CY CZ DE DK DM DO DZ EC EE EG ES ET FI FJ FK FO FR GA GB GD GE GF GG GH GI GL GM GP GR "
    "GS GT GU GY HK HN HR HT HU ID IE IL IM IN IQ IR IS IT JE JM JO JP KE KG KH KN KP KR KW KY KZ LA LB LC LI LK LR LT "
    "LU LV LY MA MC MD ME MF MG MK ML MM MN MO MQ MR MT MU MV MW MX MY MZ NA NC NG NI NL NO NP NZ OM PA PE PF PG PH PK "
    "PL PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SS SV SX SY SZ TG TH TJ TL TM TN TO "
    "TR TT TW TZ UA UG US UY UZ VA VE VG VI VN VU WS XK YE ZA ZM ZW"
)
COUNTRY_CODES = tuple(_CODES.split())
"""ISO 3166 codes in the order of the 211 countries' names in the prompts table."""
