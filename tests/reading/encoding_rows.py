"""Rows of tables in many languages, and the encodings in which such tables are saved.

A row is a name, a place and a remark; `table(language, rows)` pairs them in ever new ways, with an
ID and a number, as an export would.
"""

from __future__ import annotations

from typing import NamedTuple


class Language(NamedTuple):
    codecs: tuple[str, ...]
    header: str
    names: tuple[str, ...]
    places: tuple[str, ...]
    remarks: tuple[str, ...]


def table(language: str, rows: int) -> str:
    """A table of so many rows under its header."""
    of = LANGUAGES[language]
    lines = [of.header]
    for at in range(rows):
        name = of.names[at % len(of.names)]
        place = of.places[(at * 3 + at // 7) % len(of.places)]
        remark = of.remarks[(at * 5 + at // 11) % len(of.remarks)]
        lines.append(f"R{at:04d};{name};{place};{20 + at * 7 % 60};{remark}")
    return "\r\n".join(lines) + "\r\n"


LANGUAGES = {
    "German": Language(
        ("cp1252", "latin-1", "iso8859_15", "cp850", "mac_roman"),
        "Nr;Name;Ort;Alter;Bemerkung",
        ("Jörg Müller", "Käthe Schröder", "Anna Weiß", "Günther Groß", "Peter Lang", "Özlem Kaya"),
        ("München", "Köln", "Düsseldorf", "Berlin", "Gießen", "Nürnberg", "Lübeck"),
        ("Husten und Fieber", "müde, schläft schlecht", "Rückenschmerzen seit März",
         "keine Auffälligkeiten", "Übelkeit nach dem Essen", "größer als üblich", "hört schlecht"),
    ),
    "French": Language(
        ("cp1252", "latin-1", "iso8859_15", "cp850", "mac_roman"),
        "id;nom;ville;âge;remarque",
        ("Hélène Lefèvre", "François Dupont", "Zoé Bérard", "Jérôme Garçon", "Marie Petit"),
        ("Orléans", "Besançon", "Paris", "Nîmes", "Saint-Étienne", "Châteauroux"),
        ("fièvre et toux", "n'a pas été opéré", "très fatiguée, à revoir", "traité à l'hôpital",
         "déjà vue en février", "ça va mieux", "où est-ce que ça fait mal"),
    ),
    "Spanish": Language(
        ("cp1252", "latin-1", "cp850", "mac_roman"),
        "id;nombre;ciudad;edad;observación",
        ("José Muñoz", "María Núñez", "Begoña Ibáñez", "Ramón Peña", "Íñigo López", "Ana Ruiz"),
        ("Málaga", "Cádiz", "Logroño", "Madrid", "A Coruña", "León"),
        ("tos y fiebre", "el niño está cansado", "dolor de cabeza después de comer",
         "operación el año pasado", "sin síntomas", "¿cuándo vuelve?", "según la señora, mejoró"),
    ),
    "Portuguese": Language(
        ("cp1252", "latin-1", "cp850"),
        "id;nome;cidade;idade;observação",
        ("João Conceição", "Inês Gonçalves", "Sebastião Araújo", "Luís Simões", "Ana Magalhães"),
        ("São Paulo", "Évora", "Lisboa", "Guimarães", "Covilhã", "Setúbal"),
        ("febre e tosse", "não tem alergias", "medicação até amanhã", "dor no coração",
         "três vezes por mês", "já está melhor", "avó também doente"),
    ),
    "Italian": Language(
        ("cp1252", "latin-1", "cp850"),
        "id;nome;città;età;nota",
        ("Niccolò Rossi", "Giosuè Bianchi", "Mosè Conti", "Andrea Forlì", "Lucia Dalla Libertà"),
        ("Forlì", "Cantù", "Roma", "Viggiù", "Cefalù", "San Donà"),
        ("però sta meglio", "più stanca di lunedì", "c'è febbre", "non è più tornato",
         "perché ha dolore", "la metà è già fatta"),
    ),
    "Swedish": Language(
        ("cp1252", "latin-1", "cp850"),
        "id;namn;ort;ålder;anmärkning",
        ("Åsa Lindström", "Göran Sjöberg", "Märta Nordén", "Pär Öberg", "Lars Ek", "Björn Åkesson"),
        ("Göteborg", "Malmö", "Umeå", "Örebro", "Västerås", "Luleå"),
        ("har hosta och feber", "trött, sover dåligt", "ont i ryggen sedan två år",
         "ingen anmärkning", "går på återbesök", "vill träffa läkare"),
    ),
    "Danish": Language(
        ("cp1252", "latin-1", "cp850"),
        "id;navn;by;alder;bemærkning",
        ("Søren Kjær", "Bjørn Ågård", "Mette Sørensen", "Kåre Østergård", "Jens Bæk"),
        ("København", "Århus", "Ærø", "Odense", "Helsingør", "Tønder"),
        ("hoste og feber", "træt, søvnen er dårlig", "har ondt i ryggen på højre side",
         "ingen bemærkning", "må ikke få mælk", "går på gåtur"),
    ),
    "Polish": Language(
        ("cp1250", "iso8859_2", "cp852"),
        "id;nazwisko;miasto;wiek;uwagi",
        ("Łukasz Wójcik", "Małgorzata Dąbrowska", "Zbigniew Król", "Józef Gołąb", "Ewa Świątek"),
        ("Łódź", "Kraków", "Gdańsk", "Poznań", "Wrocław", "Częstochowa"),
        ("gorączka i kaszel", "zmęczony, źle śpi", "ból głowy od tygodnia", "bez uwag",
         "proszę zadzwonić później", "już się lepiej czuje", "późno wróciła ze szpitala"),
    ),
    "Czech": Language(
        ("cp1250", "iso8859_2", "cp852"),
        "id;jméno;město;věk;poznámka",
        ("Jiří Dvořák", "Božena Němcová", "Tomáš Růžička", "Kateřina Šťastná", "Jan Novák"),
        ("Plzeň", "Brno", "České Budějovice", "Ústí nad Labem", "Hradec Králové", "Děčín"),
        ("horečka a kašel", "unavený, špatně spí", "bolest hlavy už týden", "bez připomínek",
         "přijde příští středu", "má se lépe", "večer měl třesavku"),
    ),
    "Hungarian": Language(
        ("cp1250", "iso8859_2", "cp852"),
        "id;név;város;életkor;megjegyzés",
        ("Kovács Győző", "Szűcs Réka", "Tóth Ágnes", "Fehér Ödön", "Nagy Imre", "Őri Júlia"),
        ("Győr", "Pécs", "Székesfehérvár", "Budapest", "Hódmezővásárhely", "Gödöllő"),
        ("láz és köhögés", "fáradt, rosszul alszik", "fejfájás egy hete", "nincs megjegyzés",
         "következő héten jön vissza", "jobban érzi magát", "műtét után erősödő fájdalom"),
    ),
    "Romanian": Language(
        ("cp1250", "iso8859_2"),
        "id;nume;oraº;vârsta;obs".replace("º", "ş"),
        ("Ştefan Ţiriac", "Ioana Brăileanu", "Mihăiţă Câmpeanu", "Ana Mureşan", "Ion Pop"),
        ("Bucureşti", "Iaşi", "Timişoara", "Cluj", "Piteşti", "Braşov"),
        ("febră şi tuse", "obosită, doarme prost", "dureri de cap de o săptămână",
         "fără observaţii",
         "vine mâine dimineaţă", "s-a simţit mai bine"),
    ),
    "Croatian": Language(
        ("cp1250", "iso8859_2"),
        "id;ime;grad;dob;napomena",
        ("Željko Šarić", "Đurđica Kovačević", "Ivan Horvat", "Ana Vukšić", "Mišo Žganec"),
        ("Čakovec", "Šibenik", "Zagreb", "Požega", "Križevci", "Varaždin"),
        ("vrućica i kašalj", "umoran, loše spava", "glavobolja već tjedan dana", "bez primjedbi",
         "doći će sljedeći tjedan", "osjeća se bolje", "žali se na bol u leđima"),
    ),
    "Russian": Language(
        ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic"),
        "ид;имя;город;возраст;примечание",
        ("Иван Петров", "Ольга Смирнова", "Фёдор Щербаков", "Юлия Цветкова", "Пётр Жуков"),
        ("Москва", "Санкт-Петербург", "Нижний Новгород", "Казань", "Челябинск", "Уфа"),
        ("кашель и температура", "устал, плохо спит", "головная боль уже неделю", "без жалоб",
         "придёт в следующий четверг", "чувствует себя лучше", "после операции"),
    ),
    "Ukrainian": Language(
        ("cp1251", "koi8_u", "cp1125"),
        "ід;ім'я;місто;вік;примітка",
        ("Іван Шевченко", "Оксана Їжакевич", "Євген Грищук", "Тарас Бойко", "Юлія Ґалаґан"),
        ("Київ", "Львів", "Харків", "Запоріжжя", "Чернігів", "Одеса"),
        ("кашель і температура", "втомлений, погано спить", "головний біль уже тиждень",
         "без скарг", "прийде в наступний четвер", "почувається краще", "після операції"),
    ),
    "Bulgarian": Language(
        ("cp1251",),
        "ид;име;град;възраст;бележка",
        ("Георги Иванов", "Мария Димитрова", "Стоян Ъглев", "Юлия Щерева", "Цветан Жеков"),
        ("София", "Пловдив", "Варна", "Бургас", "Търново", "Кърджали"),
        ("кашлица и температура", "уморен, спи лошо", "главоболие от седмица", "без оплаквания",
         "ще дойде в четвъртък", "чувства се по-добре", "след операцията"),
    ),
    "Greek": Language(
        ("cp1253", "iso8859_7", "cp737"),
        "α/α;όνομα;πόλη;ηλικία;παρατηρήσεις",
        ("Γιώργος Παπαδόπουλος", "Μαρία Νικολάου", "Ελένη Άνθη", "Ιωάννης Ψαράς", "Έφη Ζώη"),
        ("Αθήνα", "Θεσσαλονίκη", "Πάτρα", "Ηράκλειο", "Ιωάννινα", "Χανιά"),
        ("πυρετός και βήχας", "κουρασμένος, κοιμάται άσχημα", "πονοκέφαλος εδώ και μία εβδομάδα",
         "χωρίς παρατηρήσεις", "θα έρθει την άλλη Πέμπτη", "αισθάνεται καλύτερα"),
    ),
    "Turkish": Language(
        ("cp1254", "iso8859_9", "cp857"),
        "no;ad;şehir;yaş;açıklama",
        ("Ayşe Yılmaz", "Gökhan Çelik", "İbrahim Doğan", "Şule Öztürk", "Ali Işık", "Hüseyin Ağa"),
        ("İstanbul", "Muğla", "Çanakkale", "Ankara", "Eskişehir", "Şanlıurfa"),
        ("ateş ve öksürük", "yorgun, kötü uyuyor", "bir haftadır baş ağrısı", "şikâyeti yok",
         "gelecek perşembe gelecek", "kendini daha iyi hissediyor", "ameliyattan sonra"),
    ),
    "Hebrew": Language(
        ("cp1255", "iso8859_8"),
        "מספר;שם;עיר;גיל;הערה",
        ("משה כהן", "שרה לוי", "יוסף מזרחי", "רחל פרץ", "דוד ביטון"),
        ("ירושלים", "תל אביב", "חיפה", "באר שבע", "נתניה"),
        ("חום ושיעול", "עייף וישן רע", "כאב ראש כבר שבוע", "ללא הערות", "יגיע ביום חמישי",
         "מרגיש טוב יותר", "אחרי ניתוח"),
    ),
    "Arabic": Language(
        ("cp1256", "iso8859_6"),
        "رقم;اسم;مدينة;عمر;ملاحظة",
        ("محمد علي", "فاطمة حسن", "يوسف إبراهيم", "عائشة أحمد", "خالد منصور"),
        ("القاهرة", "دمشق", "بغداد", "الرياض", "الإسكندرية"),
        ("حمى وسعال", "متعب ولا ينام جيدا", "صداع منذ أسبوع", "بدون ملاحظات",
         "سيأتي يوم الخميس", "يشعر بتحسن", "بعد العملية"),
    ),
    "Lithuanian": Language(
        ("cp1257", "iso8859_13"),
        "id;vardas;miestas;amžius;pastaba",
        ("Jonas Šimkus", "Rūta Žukauskaitė", "Eglė Čepaitė", "Vytautas Ąžuolas", "Ona Jankūnė"),
        ("Šiauliai", "Klaipėda", "Panevėžys", "Vilnius", "Kėdainiai", "Mažeikiai"),
        ("karščiuoja ir kosėja", "pavargęs, blogai miega", "savaitę skauda galvą", "be pastabų",
         "ateis kitą ketvirtadienį", "jaučiasi geriau", "po operacijos"),
    ),
    "Vietnamese": Language(
        ("cp1258",),
        "số;tên;thành phố;tuổi;ghi chú",
        ("Nguyễn Văn Đức", "Trần Thị Hương", "Lê Hoàng Nam", "Phạm Ngọc Ánh", "Đỗ Quốc Việt"),
        ("Hà Nội", "Đà Nẵng", "Huế", "Cần Thơ", "Hải Phòng"),
        ("sốt và ho", "mệt, ngủ không ngon", "đau đầu một tuần nay", "không có ghi chú",
         "sẽ đến vào thứ năm", "cảm thấy khỏe hơn", "sau khi mổ"),
    ),
    "Japanese": Language(
        ("cp932", "euc_jp"),
        "番号;名前;市;年齢;備考",
        ("佐藤太郎", "鈴木花子", "高橋一郎", "田中さくら", "渡辺ケンジ"),
        ("東京", "大阪", "名古屋", "札幌", "さいたま", "横浜"),
        ("熱と咳があります", "疲れていて、よく眠れない", "一週間前から頭が痛い", "特になし",
         "来週の木曜日に来る", "少し良くなりました", "アレルギーの検査をした"),
    ),
    "Chinese simplified": Language(
        ("gb18030", "gbk", "gb2312"),
        "编号;姓名;城市;年龄;备注",
        ("王小明", "李丽华", "张伟", "刘洋", "陈建国"),
        ("北京", "上海", "广州", "成都", "西安", "沈阳"),
        ("发烧和咳嗽", "很累,睡得不好", "头痛已经一个星期了", "没有备注", "下周四再来",
         "感觉好多了", "手术以后需要休息"),
    ),
    "Chinese traditional": Language(
        ("big5", "cp950"),
        "編號;姓名;城市;年齡;備註",
        ("陳志明", "林淑芬", "黃建國", "張雅婷", "王大為"),
        ("臺北", "高雄", "臺中", "新竹", "香港", "花蓮"),
        ("發燒和咳嗽", "很累,睡得不好", "頭痛已經一個星期了", "沒有備註", "下星期四再來",
         "感覺好多了", "手術以後需要休息"),
    ),
    "Korean": Language(
        ("cp949", "euc_kr"),
        "번호;이름;도시;나이;비고",
        ("김철수", "이영희", "박지훈", "최민지", "정우성"),
        ("서울", "부산", "대구", "인천", "광주"),
        ("열과 기침이 있음", "피곤하고 잠을 잘 못 잠", "일주일째 머리가 아픔", "특이 사항 없음",
         "다음 주 목요일에 다시 옴", "많이 좋아졌습니다", "수술 후 회복 중"),
    ),
    "Thai": Language(
        ("cp874",),
        "ลำดับ;ชื่อ;เมือง;อายุ;หมายเหตุ",
        ("สมชาย ใจดี", "สุดา แก้วมณี", "ประเสริฐ ทองคำ", "นภา ศรีสุข"),
        ("กรุงเทพ", "เชียงใหม่", "ขอนแก่น", "ภูเก็ต"),
        ("มีไข้และไอ", "เหนื่อย นอนไม่หลับ", "ปวดหัวมาหนึ่งสัปดาห์", "ไม่มีหมายเหตุ",
         "จะมาวันพฤหัสบดี", "รู้สึกดีขึ้น"),
    ),
}  # fmt: skip
