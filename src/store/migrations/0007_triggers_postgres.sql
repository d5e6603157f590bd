-- The texts that the releases before this column write are known; who writes another text sets the kind as well.
CREATE FUNCTION auto_certificate_held() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.held_kind := CASE
        WHEN NEW.held_by IS NULL THEN NULL
        WHEN NEW.held_by = 'provider-down' THEN 'provider-down'
        WHEN NEW.held_by LIKE 'orders of the account (%' THEN 'orders'
        WHEN NEW.held_by LIKE 'new certificates of %' THEN 'domain'
        WHEN NEW.held_by LIKE 'certificates for exactly %' THEN 'name-set'
        WHEN NEW.held_by LIKE 'failed validations of %' THEN 'failures'
        ELSE COALESCE(NEW.held_kind, 'unknown') END;
    RETURN NEW;
END $$;
CREATE TRIGGER auto_certificates_held BEFORE INSERT OR UPDATE OF held_by ON auto_certificates
    FOR EACH ROW EXECUTE FUNCTION auto_certificate_held();

CREATE FUNCTION auto_certificate_disposition() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.trouble_disposition := CASE WHEN NEW.trouble IS NOT NULL THEN
        value_of_document(NEW.trouble, 'last', 'disposition') END;
    RETURN NEW;
END $$;
CREATE TRIGGER auto_certificates_disposition BEFORE INSERT OR UPDATE OF trouble ON auto_certificates
    FOR EACH ROW EXECUTE FUNCTION auto_certificate_disposition();

CREATE FUNCTION provider_account_fate() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.account_fate := CASE WHEN NEW.account_note IS NOT NULL THEN value_of_document(NEW.account_note, 'fate') END;
    RETURN NEW;
END $$;
CREATE TRIGGER providers_account_fate BEFORE INSERT OR UPDATE OF account_note ON providers
    FOR EACH ROW EXECUTE FUNCTION provider_account_fate();
