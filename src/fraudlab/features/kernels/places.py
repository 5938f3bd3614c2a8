"""Statistics of places and of the hour, both of which go round. Chunks, windows and `start` as in `windows`.

Directions are summed as integers in units of 2**-40, so that a window's mean does not depend on how it came about.
"""

from __future__ import annotations

import math

import numpy as np

from fraudlab.features.kernels.jit import inlined, part

# Mean radius of the earth (IUGG R1), km.
EARTH_RADIUS_KM = 6371.0088
DIRECTION = 2.0**40
HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
USUAL_HOUR, HOUR_SPREAD, HOUR_SHIFT = 0, 1, 2
ONE = np.uint64(1)


@part
def kilometres(latitude, longitude, other_latitude, other_longitude):
    """Return the great-circle distance in km: the haversine formula on a sphere of the earth's mean radius."""
    if latitude == other_latitude and longitude == other_longitude:
        return 0.0  # what the formula gives too, after six functions of angles
    north = math.radians(latitude - other_latitude) / 2
    east = math.radians(longitude - other_longitude) / 2
    shrink = math.cos(math.radians(latitude)) * math.cos(math.radians(other_latitude))
    half = math.sin(north) ** 2 + shrink * math.sin(east) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(half, 1.0)))


@inlined
def journey(latitude, longitude, time, ip, km, hours):
    """Write the km and hours since the group's previous known place; NaN without one or without a place now."""
    for g in range(ip.size - 1):
        before = -1
        for i in range(ip[g], ip[g + 1]):
            km[i] = math.nan
            hours[i] = math.nan
            if latitude[i] == latitude[i] and longitude[i] == longitude[i]:
                if before >= 0:
                    km[i] = kilometres(latitude[i], longitude[i], latitude[before], longitude[before])
                    hours[i] = (time[i] - time[before]) / HOUR
                before = i


@inlined
def speed(km, hours, slack, floor, start, out):
    """Write the km/h of each journey, less `slack` km, in `floor` hours or more."""
    for i in range(start, out.size):
        out[i] = max(km[i] - slack, 0.0) / max(hours[i], floor) if km[i] == km[i] else math.nan


@part
def direction(angle, turn):
    """Return the cosine and the sine of an angle, of which `turn` is the whole way round.

    What lies beyond the nearest quarter of a turn, at most pi / 4, is put into the Taylor series, to the last place of
    a float64. There is no branch and no call: the processor works on several angles at once.
    """
    quarters = np.rint(angle * (4 / turn))
    x = (angle - quarters * (turn / 4)) * (2 * math.pi / turn)
    xx = x * x
    cosine, sine = 0.0, 0.0
    for k in range(8, 0, -1):
        cosine = (1.0 - cosine) * (xx * (1 / ((2 * k) * (2 * k - 1))))
        sine = (1.0 - sine) * (xx * (1 / ((2 * k) * (2 * k + 1))))
    cosine = 1.0 - cosine
    sine = x - x * sine
    quarter = np.int64(quarters) & 3
    odd = quarter & 1 == 1
    across = sine if odd else cosine
    along = cosine if odd else sine
    return -across if (quarter + 1) & 2 else across, -along if quarter & 2 else along


@part
def add_up(sums, k):
    """Turn row k of `sums` into running sums of what it holds, of which the first is 0."""
    found = np.int64(0)
    for i in range(np.uint64(sums.shape[1])):
        found += sums[k, i]
        sums[k, i] = found


@inlined
def running_places(latitude, longitude, sums):
    """Write the running sums of the rows' directions from the earth's centre (three rows) and of their number."""
    for k in range(4):
        sums[k, 0] = 0
    for i in range(np.uint64(latitude.size)):
        known = latitude[i] == latitude[i] and longitude[i] == longitude[i]
        level, up = direction(latitude[i] if known else 0.0, 360.0)
        x, y = direction(longitude[i] if known else 0.0, 360.0)
        size = DIRECTION if known else 0.0
        sums[0, i + ONE] = np.int64(np.rint(level * x * size))
        sums[1, i + ONE] = np.int64(np.rint(level * y * size))
        sums[2, i + ONE] = np.int64(np.rint(up * size))
        sums[3, i + ONE] = known
    for k in range(4):
        add_up(sums, k)


@inlined
def usual_distance(sums, lo, hi, start, out):
    """Write the km from the middle of each window's places; NaN without one, or without a place now.

    The middle is where the sum of the places' directions points; where they lie round the earth so evenly that these
    cancel there is none: NaN. The distance follows from the chord between the two directions.
    """
    for i in range(np.uint64(start), np.uint64(lo.size)):
        first, end = np.uint64(lo[i]), np.uint64(hi[i])
        n = sums[3, end] - sums[3, first]
        x = np.float64(sums[0, end] - sums[0, first])
        y = np.float64(sums[1, end] - sums[1, first])
        z = np.float64(sums[2, end] - sums[2, first])
        own_x = np.float64(sums[0, i + ONE] - sums[0, i])
        own_y = np.float64(sums[1, i + ONE] - sums[1, i])
        own_z = np.float64(sums[2, i + ONE] - sums[2, i])
        length = math.sqrt(x * x + y * y + z * z)
        own = math.sqrt(own_x * own_x + own_y * own_y + own_z * own_z)
        if n == 0 or own == 0.0 or length < 1e-6 * n * DIRECTION:
            out[i] = math.nan
            continue
        x = own_x / own - x / length
        y = own_y / own - y / length
        z = own_z / own - z / length
        chord = math.sqrt(x * x + y * y + z * z)
        out[i] = 2 * EARTH_RADIUS_KM * math.asin(min(chord / 2, 1.0))


@inlined
def running_hours(local, sums):
    """Write the running sums of the rows' directions on the clock face (two rows: towards 0 h and towards 6 h)."""
    sums[0, 0] = 0
    sums[1, 0] = 0
    for i in range(np.uint64(local.size)):
        x, y = direction(np.float64(local[i]), np.float64(DAY))
        sums[0, i + ONE] = np.int64(np.rint(x * DIRECTION))
        sums[1, i + ONE] = np.int64(np.rint(y * DIRECTION))
    add_up(sums, 0)
    add_up(sums, 1)


@inlined
def usual_hour(what, local, sums, lo, hi, start, out):
    """Write the circular mean of each window's hours, their circular deviation, or how far the row's hour is from it.

    NaN for an empty window and where the hours lie round the clock so evenly that they have no mean.
    """
    for i in range(start, lo.size):
        out[i] = math.nan
        n = hi[i] - lo[i]
        x = np.float64(sums[0, hi[i]] - sums[0, lo[i]])
        y = np.float64(sums[1, hi[i]] - sums[1, lo[i]])
        length = math.sqrt(x * x + y * y)
        if n == 0 or length < 1e-6 * n * DIRECTION:
            continue
        hour = math.atan2(y, x) * (12 / math.pi)
        hour += 24.0 if hour < 0 else 0.0
        if what == HOUR_SPREAD:
            together = length / (n * DIRECTION)
            out[i] = math.sqrt(-2 * math.log(together)) * (12 / math.pi) if together < 1 - 1e-11 else 0.0
        elif what == USUAL_HOUR:
            out[i] = hour if hour < 24.0 else 0.0  # 24 and a tiny negative number are 24
        else:
            away = abs((local[i] % DAY) / HOUR - hour)
            out[i] = min(away, 24.0 - away)
