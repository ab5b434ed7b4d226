-- Servers of an older version may go on while a newer one changes the schema, where the step says so.

-- The least step that a program has to know to work with the database after this one; none said is this one itself.
ALTER TABLE schema_migrations ADD COLUMN serves_from integer CHECK (serves_from BETWEEN 1 AND version);
