-- All rows that there are: those of the ledger file, and those of the sealed files in a folder, which the
-- variable `costs_dir` names where it is not the one in which the ledger wrote them. A macro that has a parameter is
-- not looked into before it is asked, so that the files need not be there for this.
CREATE OR REPLACE MACRO all_bookings(folder := '$folder') AS TABLE
SELECT * FROM bookings
