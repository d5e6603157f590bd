CREATE TRIGGER providers_added AFTER INSERT ON providers BEGIN
    UPDATE totals SET present = present + 1, of_clients = of_clients + (NEW.declared_by IS NULL)
    WHERE id = 'providers';
END;
CREATE TRIGGER providers_removed AFTER DELETE ON providers BEGIN
    UPDATE totals SET present = present - 1, of_clients = of_clients - (OLD.declared_by IS NULL)
    WHERE id = 'providers';
END;
CREATE TRIGGER providers_declared AFTER UPDATE OF declared_by ON providers
WHEN (OLD.declared_by IS NULL) <> (NEW.declared_by IS NULL) BEGIN
    UPDATE totals SET of_clients = of_clients + (NEW.declared_by IS NULL) - (OLD.declared_by IS NULL)
    WHERE id = 'providers';
END;

CREATE TRIGGER auto_certificates_added AFTER INSERT ON auto_certificates WHEN NEW.deleted_at IS NULL BEGIN
    UPDATE totals SET present = present + 1, of_clients = of_clients + (NEW.declared_by IS NULL)
    WHERE id = 'auto_certificates';
END;
CREATE TRIGGER auto_certificates_removed AFTER DELETE ON auto_certificates WHEN OLD.deleted_at IS NULL BEGIN
    UPDATE totals SET present = present - 1, of_clients = of_clients - (OLD.declared_by IS NULL)
    WHERE id = 'auto_certificates';
END;
CREATE TRIGGER auto_certificates_changed AFTER UPDATE OF declared_by, deleted_at ON auto_certificates BEGIN
    UPDATE totals SET present = present + (NEW.deleted_at IS NULL) - (OLD.deleted_at IS NULL),
        of_clients = of_clients + (NEW.deleted_at IS NULL AND NEW.declared_by IS NULL)
            - (OLD.deleted_at IS NULL AND OLD.declared_by IS NULL)
    WHERE id = 'auto_certificates';
END;

CREATE TRIGGER certificates_uploaded AFTER INSERT ON certificates WHEN NEW.auto_certificate_id IS NULL BEGIN
    UPDATE totals SET present = present + 1, of_clients = of_clients + 1 WHERE id = 'certificates';
END;
CREATE TRIGGER certificates_upload_removed AFTER DELETE ON certificates WHEN OLD.auto_certificate_id IS NULL BEGIN
    UPDATE totals SET present = present - 1, of_clients = of_clients - 1 WHERE id = 'certificates';
END;
CREATE TRIGGER certificates_issued_added AFTER INSERT ON certificates WHEN NEW.auto_certificate_id IS NOT NULL BEGIN
    UPDATE auto_certificates SET newest_not_after =
        (SELECT c.not_after FROM certificates c WHERE c.auto_certificate_id = NEW.auto_certificate_id
         ORDER BY c.created_at DESC, c.id DESC LIMIT 1)
    WHERE id = NEW.auto_certificate_id;
END;
CREATE TRIGGER certificates_issued_removed AFTER DELETE ON certificates WHEN OLD.auto_certificate_id IS NOT NULL BEGIN
    UPDATE auto_certificates SET newest_not_after =
        (SELECT c.not_after FROM certificates c WHERE c.auto_certificate_id = OLD.auto_certificate_id
         ORDER BY c.created_at DESC, c.id DESC LIMIT 1)
    WHERE id = OLD.auto_certificate_id AND newest_not_after = OLD.not_after;
END;

CREATE TRIGGER auto_certificates_in_trouble AFTER UPDATE OF trouble ON auto_certificates BEGIN
    UPDATE auto_certificates SET needs_person = CASE WHEN json_valid(NEW.trouble)
        AND json_extract(NEW.trouble, '$.last.disposition') = 'operator' THEN 1 ELSE 0 END
    WHERE id = NEW.id;
END;
CREATE TRIGGER auto_certificates_added_in_trouble AFTER INSERT ON auto_certificates WHEN NEW.trouble IS NOT NULL BEGIN
    UPDATE auto_certificates SET trouble = trouble WHERE id = NEW.id;
END;
CREATE TRIGGER providers_in_trouble AFTER UPDATE OF account_url, account_note, trouble ON providers BEGIN
    UPDATE providers SET failed = CASE
        WHEN json_valid(NEW.account_note) AND json_extract(NEW.account_note, '$.fate') = 'deactivated' THEN 1
        WHEN NEW.account_url IS NULL AND json_valid(NEW.trouble)
            AND json_extract(NEW.trouble, '$.last.disposition') = 'operator' THEN 1
        ELSE 0 END
    WHERE id = NEW.id;
END;
CREATE TRIGGER providers_added_in_trouble AFTER INSERT ON providers BEGIN
    UPDATE providers SET trouble = trouble WHERE id = NEW.id;
END;
