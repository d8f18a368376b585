# What tier 1 knows, in jq; what is not here and not in natives.rs does not exist for an expression.
#
# A name with a leading `_` is native and can only be called from here. `_touch` pays for the width of `.` (the length
# of a string, the number of items), `_touch($x)` for `.` and `$x`, `_weigh(n)` n times for everything in `.`, and
# `_weigh_product($x)` for each part of `.` times each part of `$x`. Sorting compares each key some 16 times, at a
# quarter of a tick.

# Choice
def select(f): if f then . else empty end;
def error($message): $message | error;
def values: select(. != null);
def nulls: select(type == "null");
def booleans: select(type == "boolean");
def numbers: select(type == "number");
def strings: select(type == "string");
def arrays: select(type == "array");
def objects: select(type == "object");
def iterables: select(type == "array" or type == "object");
def scalars: select(type != "array" and type != "object");

# Streams
def first(f): _first(f);
def last(f): _last(f);
def isempty(g): first((g | false), true);
def all(g; condition): isempty(g | condition and empty);
def any(g; condition): isempty(g | condition or empty) | not;
def all(condition): all(.[]; condition);
def any(condition): any(.[]; condition);
def all: all(.[]; .);
def any: any(.[]; .);

# Arrays
def map(f): [.[] | f];
def first: .[0];
def last: .[-1];
def nth($n): .[$n];
def add: _sum;
def add(f): [f] | _sum;
def reverse: _touch | _reverse;
def sort: _weigh(4) | _sort;
def sort_by(f): _touch | _sort_by(f | _weigh(4));
def group_by(f): _touch | _group_by(f | _weigh(4));
def unique_by(f): [group_by(f)[] | .[0]];
def unique: unique_by(.);
def min_by(f): _touch | [_min_by(f | _weigh(1))] | .[0];
def max_by(f): _touch | [_max_by(f | _weigh(1))] | .[0];
def min: min_by(.);
def max: max_by(.);
def flatten: _flatten(1000);
def flatten($depth): _flatten($depth);
def join($separator): _join($separator);

# Objects
def keys_unsorted: _touch | _keys;
def keys: keys_unsorted | sort;
def in(xs): . as $key | xs | has($key);
def to_entries: _to_entries;
def from_entries: _from_entries;
def with_entries(f): to_entries | map(f) | from_entries;
def map_values(f):
  if type == "object" then with_entries({key, value: first(.value | f)}) else [.[] | first(f)] end;

# Search
def contains($part): _weigh_product($part) | _contains($part);
def inside(xs): . as $part | xs | contains($part);
def indices($part): _weigh_product($part) | _indices($part);
def index($part): indices($part) | .[0];
def rindex($part): indices($part) | .[-1];

# Text
def split($separator): _split($separator);
def startswith($start): _touch($start) | _startswith($start);
def endswith($end): _touch($end) | _endswith($end);
def ltrimstr($start): _touch($start) | _ltrimstr($start);
def rtrimstr($end): _touch($end) | _rtrimstr($end);
def trim: _touch | _trim;
def ltrim: _touch | _ltrim;
def rtrim: _touch | _rtrim;
def ascii_downcase: _touch | _ascii_downcase;
def ascii_upcase: _touch | _ascii_upcase;
def @text: tostring;
def @json: tojson;
def @base64: tostring | _base64;
def @base64d: tostring | _base64d;
def @uri: tostring | _uri;

# Numbers
def floor: _floor;
def ceil: _ceil;
def round: _round;
def abs: if type != "number" then error("`abs` takes a number") elif . < 0 then -. else . end;
