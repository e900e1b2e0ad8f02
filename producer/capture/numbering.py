"""Where a telephone number is, and what kind it is: as far as its first digits tell.

The worker reads the number so that only its class leaves it. Nothing is guessed: a number that is
hidden, not written in full (`+` and the country's code), or in a range that is not listed is
`unknown`, and such a call is unpriced with a reason instead of priced as another.

Sources: ITU-T E.164, list of assigned country codes, for `_COUNTRIES`; the North American Numbering
Plan's area codes in service for `_NORTH_AMERICA`; the regulators' numbering plans for `_KINDS`.
"""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "unknown"
"""The place of a number that does not tell where it is."""

_US: Final = (
    "201 202 203 205 206 207 208 209 210 212 213 214 215 216 217 218 219 220 223 224 225 227 228 "
    "229 231 234 235 239 240 248 251 252 253 254 256 260 262 267 269 270 272 274 276 279 281 283 "
    "301 302 303 304 305 307 308 309 310 312 313 314 315 316 317 318 319 320 321 323 324 325 326 "
    "327 329 330 331 332 334 336 337 339 341 346 347 350 351 352 353 357 360 361 363 364 369 380 "
    "385 386 401 402 404 405 406 407 408 409 410 412 413 414 415 417 419 423 424 425 430 432 434 "
    "435 436 440 442 443 445 447 448 457 458 463 464 469 470 472 475 478 479 480 484 501 502 503 "
    "504 505 507 508 509 510 512 513 515 516 517 518 520 530 531 534 539 540 541 551 557 559 561 "
    "562 563 564 567 570 571 572 573 574 575 580 582 585 586 601 602 603 605 606 607 608 609 610 "
    "612 614 615 616 617 618 619 620 621 623 624 626 628 629 630 631 636 640 641 645 646 650 651 "
    "656 657 659 660 661 662 667 669 678 679 680 681 682 686 689 701 702 703 704 706 707 708 712 "
    "713 714 715 716 717 718 719 720 724 725 726 727 728 730 731 732 734 737 738 740 743 747 748 "
    "754 757 760 762 763 765 769 770 771 772 773 774 775 779 781 785 786 801 802 803 804 805 806 "
    "808 810 812 813 814 815 816 817 818 820 821 826 828 830 831 832 835 837 838 839 840 843 845 "
    "847 848 850 854 856 857 858 859 860 861 862 863 864 865 870 872 878 901 903 904 906 907 908 "
    "909 910 912 913 914 915 916 917 918 919 920 924 925 928 929 930 931 934 936 937 938 940 941 "
    "943 945 947 948 949 951 952 954 956 959 970 971 972 973 975 978 979 980 983 984 985 986 989"
)
_NORTH_AMERICA: Final = {
    "us": _US,
    "ca": (
        "204 226 236 249 250 257 263 289 306 343 354 365 367 368 382 387 403 416 418 428 431 437 "
        "438 450 460 468 474 506 514 519 548 579 581 584 587 604 613 639 647 672 683 705 709 742 "
        "753 778 780 782 807 819 825 867 873 879 902 905 942"
    ),
    # Carriers charge the territories apart from the states.
    "as": "684",
    "gu": "671",
    "mp": "670",
    "pr": "787 939",
    "vi": "340",
    "ag": "268",
    "ai": "264",
    "bb": "246",
    "bm": "441",
    "bs": "242",
    "dm": "767",
    "do": "809 829 849",
    "gd": "473",
    "jm": "658 876",
    "kn": "869",
    "ky": "345",
    "lc": "758",
    "ms": "664",
    "sx": "721",
    "tc": "649",
    "tt": "868",
    "vc": "784",
    "vg": "284",
}
"""Area codes behind +1, by country. One that is listed nowhere (a new one, a premium or personal
one) is of no country: the number could be on either side of the border."""

_TOLL_FREE: Final = frozenset({"800", "833", "844", "855", "866", "877", "888"})
"""Behind +1. They do not tell a country; they are classed as `us`, the only country for which the
price list has them. Who pays another price for a Canadian one says so in a price of his own."""

_COUNTRIES: Final = (
    "7 ru 76 kz 77 kz 20 eg 211 ss 212 ma 213 dz 216 tn 218 ly 220 gm 221 sn 222 mr 223 ml 224 gn "
    "225 ci 226 bf 227 ne 228 tg 229 bj 230 mu 231 lr 232 sl 233 gh 234 ng 235 td 236 cf 237 cm "
    "238 cv 239 st 240 gq 241 ga 242 cg 243 cd 244 ao 245 gw 246 io 247 ac 248 sc 249 sd 250 rw "
    "251 et 252 so 253 dj 254 ke 255 tz 256 ug 257 bi 258 mz 260 zm 261 mg 262 re 262269 yt "
    "262639 yt 263 zw 264 na 265 mw 266 ls 267 bw 268 sz 269 km 27 za 290 sh 291 er 297 aw 298 fo "
    "299 gl 30 gr 31 nl 32 be 33 fr 34 es 350 gi 351 pt 352 lu 353 ie 354 is 355 al 356 mt 357 cy "
    "358 fi 35818 ax 359 bg 36 hu 370 lt 371 lv 372 ee 373 md 374 am 375 by 376 ad 377 mc 378 sm "
    "380 ua 381 rs 382 me 383 xk 385 hr 386 si 387 ba 389 mk 39 it 3906698 va 40 ro 41 ch 420 cz "
    "421 sk 423 li 43 at 44 gb 441481 gg 447781 gg 447839 gg 447911 gg 441624 im 447524 im "
    "447624 im 447924 im 441534 je 447509 je 447797 je 447829 je 447937 je 45 dk 46 se 47 no "
    "4779 sj 48 pl 49 de 500 fk 501 bz 502 gt 503 sv 504 hn 505 ni 506 cr 507 pa 508 pm 509 ht "
    "51 pe 52 mx 53 cu 54 ar 55 br 56 cl 57 co 58 ve 590 gp 591 bo 592 gy 593 ec 594 gf 595 py "
    "596 mq 597 sr 598 uy 5993 bq 5994 bq 5997 bq 5999 cw 60 my 61 au 6189162 cc 6189164 cx 62 id "
    "63 ph 64 nz 65 sg 66 th 670 tl 6721 aq 6723 nf 673 bn 674 nr 675 pg 676 to 677 sb 678 vu "
    "679 fj 680 pw 681 wf 682 ck 683 nu 685 ws 686 ki 687 nc 688 tv 689 pf 690 tk 691 fm 692 mh "
    "81 jp 82 kr 84 vn 850 kp 852 hk 853 mo 855 kh 856 la 86 cn 880 bd 886 tw 90 tr 91 in 92 pk "
    "93 af 94 lk 95 mm 960 mv 961 lb 962 jo 963 sy 964 iq 965 kw 966 sa 967 ye 968 om 970 ps "
    "971 ae 972 il 973 bh 974 qa 975 bt 976 mn 977 np 98 ir 992 tj 993 tm 994 az 995 ge 996 kg "
    "998 uz"
)
"""Calling codes and ISO 3166 countries. Satellite and shared international codes are of none."""

_KINDS: Final[dict[str, dict[str, str]]] = {
    "au": {"local": "2 3 7 8", "mobile": "4", "tollfree": "1800"},
    "de": {"local": "2 3 4 5 6 7 8 9", "mobile": "15 16 17", "tollfree": "800", "": "32 700 900"},
    "es": {"local": "8 9", "mobile": "6 7", "tollfree": "800 900", "": "70 80 90"},
    "fr": {
        "local": "1 2 3 4 5 9",
        "mobile": "6 7",
        "tollfree": "800 801 802 803 804 805",
    },
    "gb": {"local": "1 2 3", "mobile": "7", "tollfree": "800 808", "": "70 76"},
    "it": {"local": "0", "mobile": "3", "tollfree": "800 803"},
    "nl": {"local": "1 2 3 4 5 7", "mobile": "6", "tollfree": "800", "": "14 66 67"},
}
"""National prefixes by kind where they are few and plain. Elsewhere, and behind a prefix of no kind
(premium, personal), only the country is told."""

_LONGEST_COUNTRY: Final = 7
_LONGEST_PREFIX: Final = 4
_SHORTEST, _LONGEST = 7, 15  # of a whole number in E.164, without the plus
_NATIONAL: Final = 10  # of a number behind +1, without the 1

_AREAS: Final = {
    area: country for country, areas in _NORTH_AMERICA.items() for area in areas.split()
}
_BY_CODE: Final = dict(zip(*[iter(_COUNTRIES.split())] * 2, strict=True))
_KIND_OF: Final = {
    country: {prefix: kind for kind, prefixes in kinds.items() for prefix in prefixes.split()}
    for country, kinds in _KINDS.items()
}


def place(number: object) -> str:
    """Return where a number is: `us-local`, `us-tollfree`, `de-mobile`, `in`, or `unknown`.

    `number` is a number in full, `+15105550100`; blanks, dots, dashes, brackets and a scheme
    (`tel:`) do not matter. Without the plus it is not known in which country it was written.
    """
    digits = _digits(number)
    if not _SHORTEST <= len(digits) <= _LONGEST:
        return UNKNOWN
    if digits[0] == "1":
        return _north_american(digits[1:])
    country = _longest(_BY_CODE, digits, _LONGEST_COUNTRY)
    if not country:
        return UNKNOWN
    kinds = _KIND_OF.get(country)
    if kinds is None:
        return country
    code = next(len(it) for it, at in _BY_CODE.items() if at == country)
    kind = _longest(kinds, digits[code:], _LONGEST_PREFIX)
    return f"{country}-{kind}" if kind else country


def _north_american(national: str) -> str:
    """Return the place of the ten digits behind +1: area code, exchange, line."""
    if len(national) != _NATIONAL or min(national[0], national[3]) < "2":
        return UNKNOWN
    area = national[:3]
    if area in _TOLL_FREE:
        return "us-tollfree"
    country = _AREAS.get(area)
    return f"{country}-local" if country else UNKNOWN


def _digits(number: object) -> str:
    """Return the digits of a number that is written in full, else ""."""
    if not isinstance(number, str):
        return ""
    written = number.strip().lower()
    for scheme in ("tel:", "sip:", "sips:"):
        written = written.removeprefix(scheme)
    plus, written = written[:1], written[1:].partition("@")[0].partition(";")[0]
    digits = written.translate(_LAYOUT)
    return digits if plus == "+" and digits.isascii() and digits.isdigit() else ""


_LAYOUT: Final = dict.fromkeys(map(ord, " .-()/"))


def _longest(table: dict[str, str], digits: str, most: int) -> str:
    """Return what the longest listed prefix of some digits stands for, else ""."""
    return next((table[digits[:n]] for n in range(most, 0, -1) if digits[:n] in table), "")
