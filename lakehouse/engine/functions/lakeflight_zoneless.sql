-- lakeflight_zoneless(text VARCHAR) -> VARCHAR
-- A text that is to be read as a time without a zone: one with an offset, or in a zone other than UTC, is none any more.
-- example: lakeflight_zoneless('2026-01-01 12:00:00') = 2026-01-01 12:00:00
-- example: TRY_CAST(lakeflight_zoneless('2026-01-01 12:00:00 UTC') AS TIMESTAMP) = 2026-01-01 12:00:00
-- example: coalesce(CAST(TRY_CAST(lakeflight_zoneless('2026-01-01 12:00:00+02') AS TIMESTAMP) AS VARCHAR), 'no time') = no time
-- example: coalesce(CAST(TRY_CAST(lakeflight_zoneless('2026-01-01 12:00:00 Europe/Berlin') AS TIMESTAMP) AS VARCHAR), 'no time') = no time
CREATE MACRO lakeflight_zoneless(t) AS
    system.main.regexp_replace(
        system.main.regexp_replace(t, '(?i)(:\d\d?(?:\.\d*)?)\s*(?:(?:etc/)?(?:z|utc|gmt|zulu|uct|universal)|[+-]0?0(?::?00){0,2})\s*$', '\1'),
        '(:\d\d?(?:\.\d*)?)\s*([+-]\d\d?(?::?\d\d){0,2}|[A-Za-z][A-Za-z0-9_+/-]*)\s*$',
        '\1 (with the zone \2: write it in UTC)'
    );
