"""The part of deny.toml that can be checked without cargo-deny: licences, sources, forbidden crates."""
import json, re, sys, tomllib

rules = tomllib.load(open("deny.toml", "rb"))
allowed = set(rules["licenses"]["allow"])
forbidden = {entry["crate"] for entry in rules["bans"]["deny"]}
problems = []


def permitted(expression):
    """Whether an SPDX expression can be met with allowed licences alone."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    place = 0

    def either():
        nonlocal place
        met = both()
        while place < len(words) and words[place] == "OR":
            place += 1
            met = both() or met
        return met

    def both():
        nonlocal place
        met = one()
        while place < len(words) and words[place] == "AND":
            place += 1
            met = one() and met
        return met

    def one():
        nonlocal place
        if words[place] == "(":
            place += 1
            met = either()
            place += 1
            return met
        name = words[place]
        place += 1
        if place + 1 < len(words) and words[place] == "WITH":
            name = f"{name} WITH {words[place + 1]}"
            place += 2
        return name in allowed

    return either()


packages = json.load(sys.stdin)["packages"]
for package in packages:
    name, source, licence = package["name"], package["source"], package["license"]
    if name in forbidden:
        problems.append(f"{name} is forbidden (deny.toml)")
    if source is not None and not source.startswith("registry+https://github.com/rust-lang/crates.io-index"):
        problems.append(f"{name} comes from {source}, not from the registry")
    if source is not None and not (licence and permitted(licence)):
        problems.append(f"{name} has the licence {licence}, which deny.toml does not allow")
print(f"{len(packages)} packages: licences, sources and forbidden crates checked")
if problems:
    print("\n".join(f"error: {problem}" for problem in problems), file=sys.stderr)
    sys.exit(1)
