-- A value of a document; nothing where it has none, or is damaged.
CREATE FUNCTION value_of_document(document TEXT, VARIADIC path TEXT[]) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CAST(document AS JSON) #>> path;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

CREATE FUNCTION count_provider() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    present_by BIGINT := 0;
    of_clients_by BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        present_by := present_by - 1;
        IF OLD.declared_by IS NULL THEN of_clients_by := of_clients_by - 1; END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        present_by := present_by + 1;
        IF NEW.declared_by IS NULL THEN of_clients_by := of_clients_by + 1; END IF;
    END IF;
    IF present_by <> 0 OR of_clients_by <> 0 THEN
        UPDATE totals SET present = present + present_by, of_clients = of_clients + of_clients_by
        WHERE id = 'providers';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER providers_counted AFTER INSERT OR DELETE OR UPDATE OF declared_by ON providers
    FOR EACH ROW EXECUTE FUNCTION count_provider();

CREATE FUNCTION count_auto_certificate() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    present_by BIGINT := 0;
    of_clients_by BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        IF OLD.deleted_at IS NULL THEN
            present_by := present_by - 1;
            IF OLD.declared_by IS NULL THEN of_clients_by := of_clients_by - 1; END IF;
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        IF NEW.deleted_at IS NULL THEN
            present_by := present_by + 1;
            IF NEW.declared_by IS NULL THEN of_clients_by := of_clients_by + 1; END IF;
        END IF;
    END IF;
    IF present_by <> 0 OR of_clients_by <> 0 THEN
        UPDATE totals SET present = present + present_by, of_clients = of_clients + of_clients_by
        WHERE id = 'auto_certificates';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER auto_certificates_counted AFTER INSERT OR DELETE OR UPDATE OF declared_by, deleted_at
    ON auto_certificates FOR EACH ROW EXECUTE FUNCTION count_auto_certificate();

-- The row of the auto-certificate is locked before its newest certificate is looked for: a statement sees only what was
-- committed when it began.
CREATE FUNCTION certificate_added() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.auto_certificate_id IS NULL THEN
        UPDATE totals SET present = present + 1, of_clients = of_clients + 1 WHERE id = 'certificates';
        RETURN NULL;
    END IF;
    PERFORM 1 FROM auto_certificates WHERE id = NEW.auto_certificate_id FOR UPDATE;
    UPDATE auto_certificates SET newest_not_after =
        (SELECT c.not_after FROM certificates c WHERE c.auto_certificate_id = NEW.auto_certificate_id
         ORDER BY c.created_at DESC, c.id DESC LIMIT 1)
    WHERE id = NEW.auto_certificate_id;
    RETURN NULL;
END $$;
CREATE TRIGGER certificates_added AFTER INSERT ON certificates
    FOR EACH ROW EXECUTE FUNCTION certificate_added();

-- One that is not the newest changes nothing, and waits for nobody.
CREATE FUNCTION certificate_removed() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.auto_certificate_id IS NULL THEN
        UPDATE totals SET present = present - 1, of_clients = of_clients - 1 WHERE id = 'certificates';
        RETURN NULL;
    END IF;
    PERFORM 1 FROM auto_certificates
    WHERE id = OLD.auto_certificate_id AND newest_not_after = OLD.not_after FOR UPDATE;
    IF FOUND THEN
        UPDATE auto_certificates SET newest_not_after =
            (SELECT c.not_after FROM certificates c WHERE c.auto_certificate_id = OLD.auto_certificate_id
             ORDER BY c.created_at DESC, c.id DESC LIMIT 1)
        WHERE id = OLD.auto_certificate_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER certificates_removed AFTER DELETE ON certificates
    FOR EACH ROW EXECUTE FUNCTION certificate_removed();

CREATE FUNCTION auto_certificate_in_trouble() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.needs_person := CASE WHEN value_of_document(NEW.trouble, 'last', 'disposition') = 'operator' THEN 1 ELSE 0 END;
    RETURN NEW;
END $$;
CREATE TRIGGER auto_certificates_in_trouble BEFORE INSERT OR UPDATE OF trouble ON auto_certificates
    FOR EACH ROW EXECUTE FUNCTION auto_certificate_in_trouble();

CREATE FUNCTION provider_in_trouble() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.failed := CASE
        WHEN value_of_document(NEW.account_note, 'fate') = 'deactivated' THEN 1
        WHEN NEW.account_url IS NULL AND value_of_document(NEW.trouble, 'last', 'disposition') = 'operator' THEN 1
        ELSE 0 END;
    RETURN NEW;
END $$;
CREATE TRIGGER providers_in_trouble BEFORE INSERT OR UPDATE OF account_url, account_note, trouble ON providers
    FOR EACH ROW EXECUTE FUNCTION provider_in_trouble();
