"""Names of columns and words for what happened, in other languages than English: what exports of shops use."""

from typing import Final

_NAMES: Final[dict[str, str]] = {
    "event_time": "zeit zeitpunkt zeitstempel datum uhrzeit fecha hora fecha_hora data_hora data data_ora momento"
    " date_heure horodatage heure tijd tijdstip czas data_czas дата время дата_время 时间 日期 時間 日時 日付"
    " 시간 일시 날짜",
    "event_id": "ereignis_id vorgangsnummer bestellnummer_position",
    "user_id": "kunde kunden_id kundennummer kunden_nr kundennr kundin benutzer benutzer_id nutzer nutzer_id"
    " id_client utilisateur utilisateur_id cliente cliente_id id_cliente usuario usuario_id id_usuario utente"
    " utente_id klant klant_id klantnummer gebruiker gebruiker_id klient klient_id uzytkownik kund kund_id"
    " пользователь клиент 用户 用户id 用户_id 用户编号 客户 ユーザー ユーザーid 顧客 顧客id 会員id 사용자 고객"
    " 회원",
    "anonymous_id": "besucher besucher_id visiteur visiteur_id visitante visitante_id visitatore bezoeker",
    "session_id": "sitzung sitzungs_id sesion sesion_id sessao sessione sessie sesja",
    "event_type": "aktion aktionstyp ereignis ereignistyp vorgang typ evenement type_evenement accion evento"
    " tipo_evento tipo acao azione actie gebeurtenis akcja zdarzenie handelse händelse событие действие 行为"
    " 行为类型 事件 操作 行動 イベント 操作種別 이벤트 행동",
    "content_id": "artikel artikel_id artikelnummer artikel_nr produkt produkt_id seite produit produit_id"
    " id_produit article_id producto producto_id id_producto articulo produto produto_id prodotto prodotto_id"
    " articolo strona товар страница 商品 商品id 商品_id 商品编号 产品 商品コード ページ 상품 상품코드 페이지",
    "category": "kategorie warengruppe categorie categoria rubrik kategoria категория 类别 类目 カテゴリ"
    " カテゴリー 카테고리",
    "country": "land pays pais paese kraj страна 国家 国 국가",
    "value": "preis betrag umsatz gesamtpreis summe einzelpreis prix montant total_ttc precio importe valor preco"
    " prezzo importo prijs bedrag omzet cena kwota pris belopp цена сумма 价格 金额 価格 金額 가격 금액",
    "currency": "waehrung währung devise moneda divisa moeda valuta waluta валюта 货币 币种 通貨 통화",
    "quantity": "menge anzahl stueck stück quantite quantité cantidad unidades quantidade quantita quantità"
    " aantal hoeveelheid ilosc ilość antal количество 数量 수량",
    "channel": "kanal canal canale kanaal",
    "campaign": "kampagne campagne campana campaña campanha campagna kampania",
    "device": "geraet gerät appareil dispositivo apparaat urzadzenie",
    "text": "kommentar commentaire comentario commento bewertungstext",
    "rating": "bewertung calificacion avaliacao valutazione ocena",
}
NAMES_BY_LANGUAGE: Final = {field: tuple(text.split()) for field, text in _NAMES.items()}

_WORDS: Final[dict[str, str]] = {
    "page_view": "ansicht angesehen aufruf seitenaufruf produktansicht vue vu consultation visite vista visto"
    " visita visualizacion visualizacao visualizzazione bekeken weergave odslona просмотр 浏览 点击浏览 閲覧 表示"
    " 조회",
    "click": "klick geklickt clic clique cliccato klik kliknięcie клик 点击 クリック 클릭",
    "add_to_cart": "warenkorb in_den_warenkorb panier ajout_panier ajout_au_panier carrito anadir_al_carrito"
    " carrinho carrello winkelwagen winkelmand koszyk корзина 加购 加购物车 加入购物车 カート カートに追加"
    " 장바구니",
    "remove_from_cart": "aus_dem_warenkorb retrait_panier",
    "checkout": "kasse caisse pago cassa kassa",
    "purchase": "kauf gekauft bestellung bestellt verkauf achat acheté commande vente compra comprado pedido"
    " venta venda acquisto ordine vendita aankoop bestelling verkoop zakup zamowienie zamówienie köp покупка"
    " заказ 购买 下单 支付 購入 注文 구매 주문 결제",
    "refund": "erstattung rückerstattung retoure remboursement reembolso devolucion rimborso terugbetaling zwrot"
    " возврат 退款 退货 返品 返金 환불",
    "like": "gefällt favorit merkliste favori favorito preferito 收藏 喜欢 点赞 いいね お気に入り 찜 좋아요",
    "search": "suche gesucht recherche busqueda pesquisa ricerca zoeken поиск 搜索 検索 검색",
    "signup": "registrierung inscription registro cadastro registrazione registratie регистрация 注册 登録"
    " 会員登録 가입",
    "login": "anmeldung connexion inicio_sesion accesso вход 登录 ログイン 로그인",
    "share": "geteilt partage compartido condivisione 分享 シェア 공유",
}
WORDS_BY_LANGUAGE: Final = {word: made for made, text in _WORDS.items() for word in text.split()}
