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


@inlined
def running_places(latitude, longitude, sums):
    """Write the running sums of the rows' directions from the earth's centre (three rows) and of their number."""
    for k in range(4):
        sums[k, 0] = 0
    for i in range(latitude.size):
        for k in range(4):
            sums[k, i + 1] = sums[k, i]
        if latitude[i] == latitude[i] and longitude[i] == longitude[i]:
            north = math.radians(latitude[i])
            east = math.radians(longitude[i])
            sums[0, i + 1] += np.int64(np.rint(math.cos(north) * math.cos(east) * DIRECTION))
            sums[1, i + 1] += np.int64(np.rint(math.cos(north) * math.sin(east) * DIRECTION))
            sums[2, i + 1] += np.int64(np.rint(math.sin(north) * DIRECTION))
            sums[3, i + 1] += 1


@inlined
def usual_distance(latitude, longitude, sums, lo, hi, start, out):
    """Write the km from the middle of each window's places; NaN without one, or without a place now.

    Places that lie round the earth so evenly that their directions cancel have no middle: NaN.
    """
    for i in range(start, lo.size):
        out[i] = math.nan
        n = sums[3, hi[i]] - sums[3, lo[i]]
        if n == 0 or not (latitude[i] == latitude[i] and longitude[i] == longitude[i]):
            continue
        x = np.float64(sums[0, hi[i]] - sums[0, lo[i]])
        y = np.float64(sums[1, hi[i]] - sums[1, lo[i]])
        z = np.float64(sums[2, hi[i]] - sums[2, lo[i]])
        if math.sqrt(x * x + y * y + z * z) < 1e-6 * n * DIRECTION:
            continue
        north = math.degrees(math.atan2(z, math.sqrt(x * x + y * y)))
        out[i] = kilometres(latitude[i], longitude[i], north, math.degrees(math.atan2(y, x)))


@inlined
def running_hours(local, sums):
    """Write the running sums of the rows' directions on the clock face (two rows: towards 0 h and towards 6 h)."""
    sums[0, 0] = 0
    sums[1, 0] = 0
    for i in range(local.size):
        angle = (local[i] % DAY) * (2 * math.pi / DAY)
        sums[0, i + 1] = sums[0, i] + np.int64(np.rint(math.cos(angle) * DIRECTION))
        sums[1, i + 1] = sums[1, i] + np.int64(np.rint(math.sin(angle) * DIRECTION))


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
