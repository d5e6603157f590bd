-- The texts that the releases before this column write are known; who writes another text sets the kind as well.
CREATE TRIGGER auto_certificates_held AFTER UPDATE OF held_by ON auto_certificates BEGIN
    UPDATE auto_certificates SET held_kind = CASE
        WHEN NEW.held_by IS NULL THEN NULL
        WHEN NEW.held_by = 'provider-down' THEN 'provider-down'
        WHEN NEW.held_by LIKE 'orders of the account (%' THEN 'orders'
        WHEN NEW.held_by LIKE 'new certificates of %' THEN 'domain'
        WHEN NEW.held_by LIKE 'certificates for exactly %' THEN 'name-set'
        WHEN NEW.held_by LIKE 'failed validations of %' THEN 'failures'
        ELSE COALESCE(NEW.held_kind, 'unknown') END
    WHERE id = NEW.id;
END;
CREATE TRIGGER auto_certificates_added_held AFTER INSERT ON auto_certificates WHEN NEW.held_by IS NOT NULL BEGIN
    UPDATE auto_certificates SET held_by = held_by WHERE id = NEW.id;
END;

CREATE TRIGGER auto_certificates_disposition AFTER UPDATE OF trouble ON auto_certificates BEGIN
    UPDATE auto_certificates SET trouble_disposition = CASE WHEN json_valid(NEW.trouble)
        THEN json_extract(NEW.trouble, '$.last.disposition') END
    WHERE id = NEW.id;
END;

CREATE TRIGGER providers_account_fate AFTER UPDATE OF account_note ON providers BEGIN
    UPDATE providers SET account_fate = CASE WHEN json_valid(NEW.account_note)
        THEN json_extract(NEW.account_note, '$.fate') END
    WHERE id = NEW.id;
END;
CREATE TRIGGER providers_added_with_note AFTER INSERT ON providers WHEN NEW.account_note IS NOT NULL BEGIN
    UPDATE providers SET account_note = account_note WHERE id = NEW.id;
END;
